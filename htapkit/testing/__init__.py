"""What tests of htapkit and of its connectors share; it ships, and never runs in a server."""
