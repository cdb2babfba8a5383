"""Python functions in containers.

In the caller: ``call.py`` and ``executor.py`` make a `worker.Task`; a starter (``fork.py``,
``spawn.py`` or ``interpreter.py``) makes the `container.FunctionContainer` that performs it;
``conversation.py`` sends and receives; ``messages.py`` is the protocol. In the container:
``worker.py``. Between the two, for ``spawn.py``: ``template.py``, with its ``spare.py``.
"""
