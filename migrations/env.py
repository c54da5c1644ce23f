"""Alembic's entry: runs on the connection that `open3dsg.db.migrate` hands over, in its transaction."""

from alembic import context

from open3dsg.db.schema import metadata


def include_object(_object: object, name: str | None, kind: str, _reflected: bool, _other: object) -> bool:
    """Vector indexes are one an encoder, made by SQL: no business of autogenerate's."""
    return not (kind == "index" and name is not None and name.endswith("_hnsw"))


def run() -> None:
    connection = context.config.attributes.get("connection")
    if connection is None:
        from open3dsg.db.connect import database_url
        from open3dsg.db.migrate import engine_for
        from open3dsg.settings import load_settings

        connection = engine_for(database_url(load_settings())).connect()
    passed: list[str] = context.config.attributes.get("passed", [])
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_object=include_object,
        on_version_apply=lambda *, step, **_: passed.append(step.up_revision_id),
    )
    with context.begin_transaction():
        context.run_migrations()


run()
