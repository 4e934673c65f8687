"""Stores, chains, profiles and client contexts, held against OpenSSL."""
