//! What a message answers when it fails: a code and its parameters.

use std::fmt;

/// Result of a message.
pub type Result<T> = std::result::Result<T, ApiError>;

/// XenAPI's `ErrorDescription`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ApiError {
    /// The code, in capitals.
    pub code: &'static str,
    /// Its parameters.
    pub params: Vec<String>,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.code, self.params.join(", "))
    }
}

macro_rules! codes {
    ($($function:ident($($param:ident),*) = $code:literal: $doc:literal;)+) => {
        impl ApiError {
            $(
                #[doc = $doc]
                pub fn $function($($param: impl ToString),*) -> Self {
                    Self { code: $code, params: vec![$($param.to_string()),*] }
                }
            )+
        }

        /// All codes: name, parameters, meaning.
        pub const CODES: &[(&str, &[&str], &str)] = &[$(($code, &[$(stringify!($param)),*], $doc)),+];
    };
}

codes! {
    authentication_failed() = "SESSION_AUTHENTICATION_FAILED": "No such user, or not this password.";
    session_invalid(handle) = "SESSION_INVALID": "There is no such session (any more): log in.";
    permission_denied(permission, message) = "RBAC_PERMISSION_DENIED": "The user's role does not include it.";
    method_unknown(method) = "MESSAGE_METHOD_UNKNOWN": "There is no such message.";
    parameter_count(method, expected, received) = "MESSAGE_PARAMETER_COUNT_MISMATCH": "Too many or too few arguments.";
    deprecated() = "MESSAGE_DEPRECATED": "The message is not served any more.";
    field_type(field) = "FIELD_TYPE_ERROR": "A value is of the wrong type.";
    handle_invalid(class, handle) = "HANDLE_INVALID": "There is no object of that class with that reference.";
    uuid_invalid(class, uuid) = "UUID_INVALID": "There is no object of that class with that number.";
    duplicate_key(kind, key, value, new) = "MAP_DUPLICATE_KEY": "The map has that key already.";
    invalid_value(field, value) = "INVALID_VALUE": "A value that cannot be.";
    not_supported(field, value, reason) = "VALUE_NOT_SUPPORTED": "A value that makes sense, but not here.";
    not_implemented(message) = "NOT_IMPLEMENTED": "Not there yet.";
    internal(message) = "INTERNAL_ERROR": "What lies below refused or broke; its words.";
    operation_not_allowed(reason) = "OPERATION_NOT_ALLOWED": "Not now, and why.";
    operation_blocked(handle, code) = "OPERATION_BLOCKED": "Somebody has forbidden it (blocked_operations).";
    other_operation(class, handle) = "OTHER_OPERATION_IN_PROGRESS": "Something else is being done with the object.";
    task_cancelled(task) = "TASK_CANCELLED": "Somebody cancelled it.";
    token_parse_failure(token) = "EVENT_FROM_TOKEN_PARSE_FAILURE": "No such token was ever given out.";
    subscription_parse_failure(subscription) = "EVENT_SUBSCRIPTION_PARSE_FAILURE": "Neither a class, nor class/reference, nor *.";
    events_lost() = "EVENTS_LOST": "The token is too old; begin again with an empty one.";
    bad_power_state(vm, expected, actual) = "VM_BAD_POWER_STATE": "The VM is not in the state that this needs.";
    vm_is_template(vm) = "VM_IS_TEMPLATE": "A template is there to be cloned.";
    vm_is_snapshot(vm) = "VM_IS_SNAPSHOT": "A snapshot is there to be kept.";
    memory_constraint(constraint) = "MEMORY_CONSTRAINT_VIOLATION": "Limits must lie in order: static_min <= dynamic_min <= dynamic_max <= static_max.";
    host_disabled(host) = "HOST_DISABLED": "The host takes no more VMs.";
    device_exists(device) = "DEVICE_ALREADY_EXISTS": "The VM has something at that place.";
    device_attached(device) = "DEVICE_ALREADY_ATTACHED": "The guest has it already.";
    device_detached(device) = "DEVICE_ALREADY_DETACHED": "The guest does not have it.";
    detach_rejected(kind, handle, message) = "DEVICE_DETACH_REJECTED": "The guest will not let it go.";
    invalid_device(device) = "INVALID_DEVICE": "There is no such place for a device.";
    mac_invalid(mac) = "MAC_INVALID": "No hardware address.";
    vdi_in_use(vdi, operation) = "VDI_IN_USE": "A VM has the volume.";
    vdi_readonly(vdi) = "VDI_READONLY": "The volume never changes.";
    vdi_missing(sr, vdi) = "VDI_MISSING": "The volume's data are lost.";
    vdi_too_small(vdi, size) = "VDI_TOO_SMALL": "The volume is too small.";
    sr_unknown_driver(driver) = "SR_UNKNOWN_DRIVER": "There is no such kind of repository.";
    sr_backend(status, stdout, stderr) = "SR_BACKEND_FAILURE": "What lies below refused or broke; its words.";
    sr_has_pbd(sr) = "SR_HAS_PBD": "A host is connected to the repository.";
    sr_has_no_pbds(sr) = "SR_HAS_NO_PBDS": "No host is connected to the repository.";
    sr_not_empty() = "SR_NOT_EMPTY": "The repository has volumes.";
    sr_full(requested, maximum) = "SR_FULL": "The repository has no room for that.";
    sr_not_attached(sr) = "SR_NOT_ATTACHED": "The host is not connected to the repository.";
    network_contains_vif(vifs) = "NETWORK_CONTAINS_VIF": "Guests' interfaces are connected to it.";
    network_contains_pif(pifs) = "NETWORK_CONTAINS_PIF": "Hosts' interfaces are connected to it.";
    bridge_exists(bridge) = "BRIDGE_NAME_EXISTS": "Another network has that bridge.";
}
