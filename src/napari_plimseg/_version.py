"""The version, apart from the package's face: modules that write it into files import it here."""

__version__ = "0.1.0"
