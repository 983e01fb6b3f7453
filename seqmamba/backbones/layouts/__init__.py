"""Published checkpoint layouts, one a file: each reads foreign config.json and weights into our models."""
