"""What a training shows people: report and previews."""
