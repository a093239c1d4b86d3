"""The templates of a page, and its style: Jinja's, with autoescaping."""
