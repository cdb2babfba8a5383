"""What `minidocker.pytest_plugin` needs once a test asks for a container."""
