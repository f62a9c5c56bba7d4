"""The estimators of penult other than logistic regression."""
