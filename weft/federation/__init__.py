"""Nodes and hubs: a site without an inbound port takes work from a hub, under its own policy."""
