"""The implementation of `minidocker.pytest_plugin`, for tests that need a container."""
