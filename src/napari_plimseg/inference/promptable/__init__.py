"""Points and boxes on a slide: the session, its geometry, its proposals."""
