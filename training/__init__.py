"""Training and evaluation of the shipped networks; run from the checkout, never installed."""
