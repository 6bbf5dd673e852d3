"""The client: connections, views, results."""
