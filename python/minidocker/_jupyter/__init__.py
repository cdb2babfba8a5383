"""The implementation of the magics of `minidocker.jupyter`, imported when first used."""
