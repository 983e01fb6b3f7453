"""Steps of a recurrence as one CUDA graph: the work of hundreds of kernel launches for the price of one."""

from __future__ import annotations

import gc
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Generic

import torch
from torch import Tensor
from torch.utils import _pytree

from seqmamba.errors import UserError
from seqmamba.nn.state import State, describe_state, first_difference, map_state
from seqmamba.nn.stepping import keeping_derived
from seqmamba.ops.in_place import updating_states_in_place

_ERRORS = "thread_local"  # other threads may go on using the GPU, to write what was made so far for instance
_WAITS = "called a synchronizing CUDA operation"  # PyTorch's warning
_WARM_UPS = 2  # the first compiles kernels; what is left to initialise happens at the latest in the second


class GraphedSteps(Generic[State]):
    """A function ``outputs, state = function(state, *inputs)``, replayed with the state updated in place.

    On a GPU the function runs into one CUDA graph at the first call, with its state in buffers of its own; it
    must not wait for the GPU. Memory does not grow from call to call. On a CPU the function itself runs: same
    numbers, same interface. What of a new state lies elsewhere is copied into the buffers at the end of every
    call, which for a large state takes as long as the steps do; with ``in_place`` they write it there.

    The weights must stay where and as they are: before the capture, layers derive from them what they need
    in every step. The setting of `torch.autocast` at the first call is part of the graph, which casts the
    weights once a replay.

    Args:
        function: Some steps of a model.
        state: The state to start from, with tensors on the device where the function runs. It is not changed.
        in_place: Whether the step operators may write over the state that the function hands them: only where
            it uses every part of a state once, as a model does. Who reads one again would find the new one.
    """

    def __init__(
        self, function: Callable[..., tuple[Any, State]], state: State, *, in_place: bool = False
    ) -> None:
        self._function = function
        self._in_place = in_place
        self._state = state
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._outputs: Any = None
        self._derived: list[Any] = []
        self._checked = False

    @property
    def state(self) -> State:
        """The state now. On a GPU it is valid until the next call; clone what is to last."""
        return self._state

    @torch.inference_mode()
    def load(self, state: State) -> None:
        """Go on from another state of the same form.

        Args:
            state: It is not changed.

        Raises:
            UserError: If its shapes, dtypes or whole numbers differ from those of the graph.
        """
        if self._graph is None:
            self._state = state
            return
        before, after = describe_state(self._state), describe_state(state)
        if before != after:
            raise UserError(f"state: expected one like the graph's, got {first_difference(before, after)}")
        overwrite(self._state, state)

    @torch.inference_mode()
    def __call__(self, *inputs: Tensor) -> Any:
        """Run the steps.

        Args:
            inputs: Tensors of the same shapes and dtypes in every call.

        Returns:
            The function's outputs; on a GPU they are valid until the next call.

        Raises:
            UserError: If the state does not come out in the form in which it went in.
        """
        if not _is_on_gpu(self._state):
            outputs, new_state = self._function(self._state, *inputs)
            if not self._checked:
                _require_steady(self._state, new_state)
            self._state, self._checked = new_state, True
            return outputs
        graph = self._graph or self._capture(inputs)
        for buffer, x in zip(self._inputs, inputs, strict=True):
            buffer.copy_(x)
        graph.replay()
        return self._outputs

    def _capture(self, inputs: tuple[Tensor, ...]) -> torch.cuda.CUDAGraph:
        state, self._inputs = map_state(contiguous_copy, self._state), map_state(torch.clone, inputs)
        device = _device(state)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device):
            self._warm_up(state, device)
            overwrite(state, self._state)  # what the steps changed
            with (
                self._updating(),
                keeping_derived() as self._derived,
                _casts_of_its_own(),
                _no_garbage_collected(),
                _explained(),
                torch.cuda.graph(graph, capture_error_mode=_ERRORS),
            ):
                outputs, new_state = self._function(state, *self._inputs)
                overwrite(state, new_state)
        # capturing runs nothing, so the buffers still hold the state to start from
        self._state, self._outputs, self._graph = state, outputs, graph
        return graph

    def _updating(self) -> AbstractContextManager[None]:
        return updating_states_in_place() if self._in_place else nullcontext()

    def _warm_up(self, state: State, device: torch.device) -> None:
        """Run what a capture cannot hold, compilation above all, and see what becomes of the state."""
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream), self._updating():
            for _ in range(_WARM_UPS):
                self._function(state, *self._inputs)
            with _refusing_waits():
                _, new_state = self._function(state, *self._inputs)
        torch.cuda.current_stream(device).wait_stream(stream)
        _require_steady(state, new_state)


def _require_steady(before: Any, after: Any) -> None:
    """Refuse a state in which a shape, a dtype or a whole number changed over the steps."""
    old, new = describe_state(before), describe_state(after)
    if old != new:
        change = first_difference(old, new)
        raise UserError(
            f"a CUDA graph needs a state that keeps its form, got before and after its steps {change}",
            hint="attention without a window keeps ever more keys; run the model without a graph",
        )


@contextmanager
def _refusing_waits() -> Iterator[None]:
    """Refuse steps that wait for the GPU before a capture does.

    A capture that fails leaves PyTorch's random numbers and its allocator on that GPU in a state of capture.
    """
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
    waits = [warning for warning in caught if _WAITS in str(warning.message)]
    if waits:
        where = f"{waits[0].filename}, line {waits[0].lineno}"
        raise UserError(
            f"these steps cannot be captured in a CUDA graph: they wait for the GPU at {where}",
            hint="run them without a graph",
        )


@contextmanager
def _no_garbage_collected() -> Iterator[None]:
    """Keep Python from destroying an older graph during a capture, which that would invalidate."""
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def _explained() -> Iterator[None]:
    """Say what the matter is where a step waits for the GPU or does something else that no graph can hold."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"these steps cannot be captured in a CUDA graph: {reason}", hint="run them without a graph"
        ) from error


@contextmanager
def _casts_of_its_own() -> Iterator[None]:
    """Keep autocast from using, inside the graph, casts of weights that it made outside, and the reverse.

    Those made outside would be freed under the graph; those made inside are only filled by its replays.
    """
    torch.clear_autocast_cache()
    try:
        yield
    finally:
        torch.clear_autocast_cache()


def overwrite(buffers: Any, state: Any) -> None:
    """Copy a state into buffers, in one kernel a dtype; what of it is a view of a buffer is saved first."""
    memory = {x.untyped_storage().data_ptr() for x in _tensors(buffers)}
    groups: defaultdict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = defaultdict(lambda: ([], []))
    for buffer, x in zip(_tensors(buffers), _tensors(state), strict=True):
        if buffer is not x:  # else the steps left it alone
            targets, sources = groups[x.dtype]
            targets.append(buffer)
            sources.append(x.clone() if x.untyped_storage().data_ptr() in memory else x)
    for targets, sources in groups.values():
        torch._foreach_copy_(targets, sources)


def contiguous_copy(x: Tensor) -> Tensor:
    """A copy that steps can change in place, whatever the order in memory of what they were given."""
    return x.clone(memory_format=torch.contiguous_format)


def _tensors(state: Any) -> list[Tensor]:
    return [x for x in _pytree.tree_leaves(state) if isinstance(x, Tensor)]


def _is_on_gpu(state: Any) -> bool:
    return any(x.is_cuda for x in _tensors(state))


def _device(state: Any) -> torch.device:
    return next(x.device for x in _tensors(state) if x.is_cuda)
