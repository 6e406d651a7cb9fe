"""A Nextflow made of the jars of the registry of Java; see ``scripts/setup.sh``."""
