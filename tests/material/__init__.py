"""What tests are made of: files, certificates, hostile bytes, encoders written from the standard.

Nothing here starts a process or knows the product's codecs, so that it can disagree with them.
"""
