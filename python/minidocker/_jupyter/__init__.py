"""What `minidocker.jupyter` registers, imported when a magic is first used."""
