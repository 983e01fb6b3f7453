"""A small server that answers with a trained model over HTTP; see README.md beside this file."""
