"""Nothing here is a test: the files are plugins, loaded by the tests that need them."""

collect_ignore_glob = ["*.py"]
