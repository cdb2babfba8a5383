"""The command line: ``minidocker`` and ``python -m minidocker``.

==================  ======================================================================
``parser``          options, commands and how a command line is read (docker's rules)
``options``         the one table of options: drives parsing, help, completion and the manual
``values``          option values: id map rows, environment files, networks, …
``request``         what was asked for, as keywords of :class:`minidocker.Popen`
``usage``           ``--help``
``reference``       the option tables of ``docs/cli.md``
``completion``      what a shell may offer next
``terminal``        pseudo terminals
``supervise``       waits for a command, forwards signals
``commands``        one module for each subcommand
==================  ======================================================================

Everything is imported when it is needed, because a command line is started often.
"""
