"""The retriever's loop against scripted archives."""
