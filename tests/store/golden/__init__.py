"""Stores as earlier versions of the format wrote them."""
