"""A module of a user that fails where it is imported."""

raise RuntimeError("the licence server is down")
