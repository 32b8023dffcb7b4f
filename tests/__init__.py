"""All tests, and the benchmark. What they share with connectors' tests is in `htapkit.testing`."""
