"""The GA4GH Task Execution Service 1.1.0."""
