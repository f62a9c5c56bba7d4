"""Matrix passes that several estimators use."""
