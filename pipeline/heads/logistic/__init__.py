"""Multinomial logistic regression over a whole path of penalties."""
