"""What is kept of a run: the ledger, the pictures, the summary and the contact sheet."""
