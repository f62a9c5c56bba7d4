"""Multinomial logistic regression along a path of penalties."""
