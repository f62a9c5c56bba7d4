"""Matrix passes that several estimators share."""
