"""Images to features to heads to models: everything that a user asks for is done here."""
