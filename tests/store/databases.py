"""The databases that the store's tests run on, and how a test says that it is about one of them."""

import pytest

DATABASES = ("sqlite", "postgresql")

only_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
only_postgresql = pytest.mark.parametrize("database", ["postgresql"], indirect=True)
