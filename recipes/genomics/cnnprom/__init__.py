"""CNNProm: promoters of plants, mouse and bacteria."""
