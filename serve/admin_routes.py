"""Administration: which model is served, another one, back. All of it needs the administrator's token."""

from __future__ import annotations

from fastapi import APIRouter

from serve import schema
from serve.problems import Problem
from serve.service import Service, ServiceDep, problems_of
from serve.switch import State, Switch

router = APIRouter(prefix="/v1/admin", tags=["administration"], responses=problems_of(401, 403, 422, 503))


@router.get("/model")
async def served_model(service: ServiceDep) -> schema.SwapAnswer:
    """The served model and the last change of it."""
    return _answer(_switch(service).state())


@router.post("/model", status_code=202, responses=problems_of(400, 409, 413, 415))
async def swap_model(service: ServiceDep, wanted: schema.SwapRequest) -> schema.SwapAnswer:
    """Serve another model, if it passes the quality gate; ask GET /v1/admin/model how far it is."""
    return _answer(await _switch(service).swap(wanted.uri))


@router.post("/rollback", status_code=202, responses=problems_of(409))
async def roll_back(service: ServiceDep) -> schema.SwapAnswer:
    """Serve the model before the last change again, and don't follow an alias to the present one any more."""
    return _answer(await _switch(service).rollback())


def _switch(service: Service) -> Switch:
    if service.switch is None:
        raise Problem("admin_off", "This server can't change its model.")
    return service.switch


def _answer(state: State) -> schema.SwapAnswer:
    models = [
        None if one is None else schema.ServedModel(uri=one.uri, name=one.name, version=one.version)
        for one in (state.current, state.previous)
    ]
    task = None
    if state.task is not None:
        task = schema.SwapTask(
            wanted=state.task.wanted, step=state.task.step, reason=state.task.reason, report=state.task.report
        )
    assert models[0] is not None
    return schema.SwapAnswer(current=models[0], previous=models[1], rejected=list(state.rejected), task=task)
