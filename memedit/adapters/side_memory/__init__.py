"""WISE (arXiv 2405.14768) and MEMOIR (arXiv 2506.07899): a second matrix beside one late layer, behind a router.

Both are trained edit after edit, so that what they hold depends on the order, and neither gives an edit back. They are
here to be compared with.
"""
