"""The table of errors: against the contract's rows, and what it refuses."""

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.error_table import BAD_REQUEST
from protocol.errors import ERRORS, ApiError, ProtocolError, error, plain_error, read_table

# id, code and status of every row of docs/api/errors.md.
CONTRACT = """
api.assert.invalid_type 33619969 400
api.assert.invalid_argument 33619970 400
api.assert.missing_argument 33619971 400
api.assert.empty_argument 33619972 400
api.assert.mutually_exclusive 33619973 400
api.assert.too_many_arguments 33619974 400
api.assert.unexpected_argument 33619975 400
api.assert.body_required 33619976 400
api.assert.unexpected_type_assertion 33619977 500
api.assert.invalid_id 33619978 400
api.assert.forbidden_argument 33619979 400
api.assert.koncorde_unknown_keyword 33619980 400
api.assert.koncorde_restricted_keyword 33619981 400
api.assert.koncorde_dsl_error 33619982 400
api.assert.forbidden_stream 33619983 500
api.assert.unsupported_protocol 33619984 500
api.process.action_locked 33685505 412
api.process.overloaded 33685506 503
api.process.connection_dropped 33685507 400
api.process.controller_not_found 33685508 404
api.process.action_not_found 33685509 404
api.process.incompatible_sdk_version 33685510 400
api.process.shutting_down 33685511 503
api.process.too_many_requests 33685512 429
api.process.admin_exists 33685513 412
api.process.incomplete_multiple_request 33685514 400
api.process.not_enough_nodes 33685515 503
api.process.unauthorized_origin 33685516 401
api.process.too_many_logins_requests 33685517 429
api.process.forbidden_embedded_sdk_action 33685518 500
network.http.request_too_large 50397185 413
network.http.unexpected_error 50397186 400
network.http.too_many_encodings 50397187 400
network.http.unsupported_compression 50397188 400
network.http.compression_disabled 50397189 400
network.http.unsupported_verb 50397190 400
network.http.url_not_found 50397191 404
network.http.unsupported_content 50397192 400
network.http.unsupported_charset 50397193 400
network.http.duplicate_url 50397194 500
network.http.volatile_parse_failed 50397195 400
network.http.body_parse_failed 50397196 400
network.http.file_too_large 50397197 413
network.http.stream_closed 50397198 500
network.http.stream_errored 50397199 500
network.mqtt.unexpected_error 50462721 400
network.websocket.unexpected_error 50528257 400
network.websocket.ratelimit_exceeded 50528258 429
network.entrypoint.unexpected_event 50593793 500
network.entrypoint.invalid_port 50593794 500
network.entrypoint.shutting_down 50593795 503
security.token.invalid 117506049 401
security.token.unknown_user 117506050 500
security.token.unknown_connection 117506051 500
security.token.ttl_exceeded 117506052 400
security.token.generation_failed 117506053 500
security.token.expired 117506054 401
security.token.verification_error 117506055 500
security.token.refresh_forbidden 117506056 401
security.token.invalid_expiration 117506057 400
security.credentials.unknown_strategy 117571585 400
security.credentials.database_inconsistency 117571586 500
security.credentials.rejected 117571587 400
security.rights.unauthorized 117637121 401
security.rights.forbidden 117637122 403
security.rights.failsafe_mode_admin_only 117637123 403
security.user.already_exists 117702657 412
security.user.not_found 117702658 404
security.user.anonymous_profile_required 117702659 400
security.user.cannot_hydrate 117702660 500
security.user.uninitialized 117702661 500
security.user.prevent_overwrite 117702662 400
security.user.no_profile 117702663 500
security.role.not_found 117768193 404
security.role.login_required 117768194 400
security.role.cannot_delete 117768195 400
security.role.in_use 117768196 412
security.role.uninitialized 117768197 500
security.role.invalid_rights 117768198 400
security.role.closure_exec_failed 117768199 400
security.role.closure_missing_test 117768200 400
security.role.unknown_controller 117768201 400
security.role.unknown_action 117768202 400
security.profile.not_found 117833729 404
security.profile.cannot_delete 117833730 400
security.profile.in_use 117833731 412
security.profile.cannot_hydrate 117833732 500
security.profile.missing_anonymous_role 117833733 400
security.profile.uninitialized 117833734 500
security.cookie.invalid 117899265 401
security.cookie.unsupported 117899266 500
plugin.assert.invalid_plugins_dir 67174401 500
plugin.assert.cannot_load 67174402 500
plugin.assert.invalid_hook 67174403 500
plugin.assert.invalid_pipe 67174404 500
plugin.assert.init_not_found 67174405 500
plugin.assert.privileged_not_supported 67174406 500
plugin.assert.privileged_not_set 67174407 500
plugin.assert.not_a_constructor 67174408 500
plugin.assert.name_already_exists 67174409 500
plugin.assert.invalid_plugin_name 67174410 500
plugin.assert.no_name_provided 67174411 500
plugin.assert.invalid_controller_definition 67174412 500
plugin.assert.invalid_application_name 67174413 500
plugin.assert.duplicated_api_definition 67174414 500
plugin.assert.plugin_not_found 67174415 404
plugin.assert.invalid_openapi_schema 67174416 500
plugin.runtime.failed_init 67239937 500
plugin.runtime.unexpected_error 67239938 500
plugin.runtime.pipe_timeout 67239939 504
plugin.runtime.too_many_pipes 67239940 503
plugin.runtime.already_started 67239941 500
plugin.runtime.unavailable_before_start 67239942 500
plugin.runtime.unknown_pipe 67239943 500
plugin.runtime.unexpected_installation_error 67239944 500
plugin.runtime.incompatible 67239945 500
plugin.strategy.invalid_description 67305473 500
plugin.strategy.invalid_methods 67305474 500
plugin.strategy.invalid_method_type 67305475 500
plugin.strategy.missing_method_function 67305476 500
plugin.strategy.invalid_config 67305477 500
plugin.strategy.unexpected_constructor 67305478 500
plugin.strategy.invalid_constructor 67305479 500
plugin.strategy.invalid_authenticator 67305480 500
plugin.strategy.unknown_authenticator 67305481 500
plugin.strategy.invalid_option 67305482 500
plugin.strategy.invalid_fields 67305483 500
plugin.strategy.invalid_definition 67305484 500
plugin.strategy.failed_registration 67305485 500
plugin.strategy.invalid_verify_return 67305486 500
plugin.strategy.invalid_verify_resolve 67305487 500
plugin.strategy.invalid_kuid 67305488 500
plugin.strategy.unknown_kuid 67305489 500
plugin.strategy.unauthorized_removal 67305490 500
plugin.strategy.strategy_not_found 67305491 404
plugin.strategy.missing_user 67305492 401
plugin.strategy.missing_optional_method 67305493 500
plugin.controller.invalid_description 67371009 500
plugin.controller.invalid_action 67371010 500
plugin.controller.unexpected_route_property 67371011 500
plugin.controller.invalid_route_property 67371012 500
plugin.controller.undefined_controller 67371013 500
plugin.controller.undefined_action 67371014 500
plugin.controller.unsupported_verb 67371015 500
plugin.controller.unserializable_response 67371016 500
plugin.controller.invalid_action_response 67371017 500
plugin.controller.invalid_openapi_schema 67371018 500
plugin.context.missing_collection 67502081 500
plugin.context.unavailable_realtime 67502082 500
plugin.context.invalid_user 67502083 500
plugin.context.invalid_callback 67502084 500
plugin.context.missing_request 67502085 500
plugin.context.missing_request_data 67502086 500
plugin.context.invalid_event 67502087 500
plugin.context.missing_authenticator 67502088 500
plugin.authenticators.not_an_object 67567617 500
plugin.authenticators.invalid_authenticator 67567618 500
core.fatal.unexpected_error 1 500
core.fatal.service_unavailable 2 500
core.fatal.assertion_failed 5 500
services.storage.unknown_index 16842753 412
services.storage.unknown_collection 16842754 412
services.storage.get_limit_exceeded 16842755 413
services.storage.write_limit_exceeded 16842756 413
services.storage.incomplete_delete 16842761 206
services.storage.not_found 16842763 404
services.storage.unknown_scroll_id 16842766 404
services.storage.search_as_an_id 16842767 400
services.storage.document_already_exists 16842769 400
services.storage.missing_argument 16842770 400
services.storage.invalid_argument 16842771 400
services.storage.invalid_mapping 16842773 400
services.storage.not_connected 16842776 500
services.storage.cannot_change_mapping 16842778 400
services.storage.invalid_mapping_type 16842781 400
services.storage.wrong_mapping_property 16842782 400
services.storage.too_many_changes 16842784 500
services.storage.unexpected_bad_request 16842785 400
services.storage.unexpected_not_found 16842786 404
services.storage.unexpected_error 16842787 500
services.storage.invalid_search_query 16842792 400
services.storage.scroll_duration_too_great 16842796 400
services.storage.unknown_query_keyword 16842797 400
services.storage.invalid_query_keyword 16842799 400
services.cache.read_failed 16973826 500
services.cache.not_connected 16973827 503
services.cache.write_failed 16973828 500
services.koncorde.elastic_translation_error 17104897 400
plugin.kuzzle-plugin-auth-passport-local.expired_password 67108865 401
plugin.kuzzle-plugin-auth-passport-local.expired_token 67108866 401
plugin.kuzzle-plugin-auth-passport-local.invalid_token 67108867 400
plugin.kuzzle-plugin-auth-passport-local.login_in_password 67108868 400
plugin.kuzzle-plugin-auth-passport-local.must_change_password 67108869 401
plugin.kuzzle-plugin-auth-passport-local.reused_password 67108870 400
plugin.kuzzle-plugin-auth-passport-local.weak_password 67108871 400
"""
ROWS = [
    (name, int(code), int(status))
    for name, code, status in map(str.split, CONTRACT.split("\n")[1:-1])
]

OURS = {
    ("security.rights.second_factor_required", 117637136, 403),
    ("security.rights.recent_login_required", 117637137, 403),
    ("security.rights.api_key_forbidden", 117637138, 403),
}
"""Errors that the reference does not have; their codes are above all of its own."""

JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def test_the_table_is_the_contract() -> None:
    assert {(row.id, row.code, row.status) for row in ERRORS.values()} - OURS == set(ROWS)
    assert len(ROWS) == 195


@pytest.mark.parametrize(("name", "code", "status"), ROWS)
def test_each_row_raises(name: str, code: int, status: int) -> None:
    raised = error(name, "a", "b", "c")
    assert raised.as_json() == {
        "code": code,
        "id": name,
        "message": raised.message,
        "props": ["a", "b", "c"],
        "status": status,
    }
    assert raised.message and "{" not in raised.message and "?" not in raised.message


def test_key_order_is_the_wires() -> None:
    raised = error("services.storage.incomplete_delete", nested=(plain_error(400, "no"),))
    raised.more["resetToken"] = "r"
    expected = "code id message props status resetToken errors count".split()
    assert list(raised.as_json()) == expected
    assert raised.as_json()["count"] == 1
    assert raised.as_json()["errors"] == [{"message": "no", "status": 400}]


def test_error_without_id_has_neither_code_nor_props() -> None:
    plain = plain_error(400, "wrong")
    assert plain.as_json() == {"message": "wrong", "status": 400}
    assert (plain.id, plain.code, plain.props) == (None, None, None)


def test_values_are_put_in_once() -> None:
    """A value that looks like a place for a value stays text."""
    assert error("api.assert.invalid_type", "{1}{0}", "x").message.startswith('"{1}{0}"')


def test_missing_values_do_not_fail() -> None:
    raised = error("security.rights.forbidden", "auth")
    assert raised.props == ("auth",)
    assert "auth:?" in raised.message


def test_old_consoles_look_for_this_beginning() -> None:
    raised = error("api.process.incompatible_sdk_version", "6", "min: 7, max: none")
    assert raised.message.startswith("Incompatible SDK client")


def test_login_refusal_speaks_with_the_strategys_words() -> None:
    assert error("plugin.strategy.missing_user", "wrong username or password").message == (
        "wrong username or password"
    )
    assert error("plugin.strategy.missing_user", None).as_json()["props"] == [None]
    assert error("plugin.strategy.missing_user", None).message == "null"


def test_what_the_caller_may_replace() -> None:
    raised = error(
        "network.http.unexpected_error",
        message="mine",
        status=431,
        retry_after_s=3,
        more={"reason": "r"},
    )
    assert (raised.message, raised.status, raised.retry_after_s) == ("mine", 431, 3)
    assert raised.as_json()["reason"] == "r"
    assert str(raised) == "mine"


def test_unknown_id_is_our_mistake() -> None:
    with pytest.raises(KeyError):
        error("api.assert.no_such_thing")


@given(JSON_LIKE)
def test_any_value_can_be_written(value: object) -> None:
    written = error("api.assert.invalid_type", value, value).as_json()
    assert json.loads(orjson.dumps(written))["code"] == 33619969


def test_lone_surrogate_is_written() -> None:
    written = error("network.http.url_not_found", "\ud800").as_json()
    assert orjson.loads(orjson.dumps(written))["props"] == ["?"]


@pytest.mark.parametrize("plain", [1, "x", None, True, ["users", "roles"], {"a": [1.5]}, 2**63 - 1])
def test_json_values_stay_what_they_are(plain: object) -> None:
    assert error("api.assert.invalid_type", plain).props == (plain,)


def test_values_without_end_are_cut_short() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    written = error("api.assert.invalid_type", deep, 10**10_000, 2**64).as_json()
    assert orjson.loads(orjson.dumps(written))["props"] == [
        [[[[[[[["…"]]]]]]]],
        "…",
        "18446744073709551616",
    ]


def test_lists_read_as_text() -> None:
    raised = error("api.assert.unexpected_argument", "collection", ["users", "roles"])
    assert "users, roles" in raised.message


ROW = (1, BAD_REQUEST, "one", "text")


@pytest.mark.parametrize(
    "families",
    [
        {("a.b", 0x0201): (ROW, (1, BAD_REQUEST, "two", "text"))},
        {("a.b", 0x0201): (ROW, (2, BAD_REQUEST, "one", "text"))},
        {("a.b", 0x0201): (ROW,), ("a.c", 0x0201): (ROW,)},
        {("a.b", 0x0201): ((0x1_0001, BAD_REQUEST, "one", "text"),)},
        {("a.b", 0x0201): ((0, BAD_REQUEST, "one", "text"),)},
        {("a.b", 0x1_0201): (ROW,)},
        {("a.b", 0x0201): ((1, "NoSuchError", "one", "text"),)},
    ],
    ids=["code", "id", "code of another family", "number", "zero", "family", "class"],
)
def test_contradictions_are_refused(
    families: dict[tuple[str, int], tuple[tuple[int, str, str, str], ...]],
) -> None:
    with pytest.raises(ValueError, match=r"twice|range|class"):
        read_table(families)


def test_protocol_error_says_how_to_end() -> None:
    broken = ProtocolError("unmasked frame")
    assert (broken.reason, broken.status, broken.close_code) == ("unmasked frame", 400, 1002)
    assert ProtocolError("too big", status=413, close_code=1009).close_code == 1009
    assert str(broken) == "unmasked frame"


def test_api_error_is_an_exception() -> None:
    assert isinstance(error("security.token.invalid"), ApiError)
