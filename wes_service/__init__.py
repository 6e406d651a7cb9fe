"""The GA4GH Workflow Execution Service 1.1.0."""
