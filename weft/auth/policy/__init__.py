"""The site's policy: who may do what with which data, in one readable file, decided by one pure function."""
