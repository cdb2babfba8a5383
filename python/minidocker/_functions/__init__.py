"""Python functions in containers.

In the caller, ``call.py`` and ``executor.py`` make a `worker.Task`. A starter (``fork.py``,
``spawn.py`` or ``interpreter.py``) makes the `function_container.FunctionContainer` that performs
it, and ``conversation.py`` sends the task and receives the answer. ``messages.py`` is the protocol.
In the container, ``worker.py`` performs the task. For ``spawn.py``, a process between the two runs
``template.py`` and ``ready.py``.
"""
