// What this program and this machine are.
#include <algorithm>
#include <array>

#include "machine/accelerators.h"
#include "machine/board.h"
#include "machine/machine.h"
#include "monitor/qmp/command_table.h"
#include "monitor/qmp/dispatcher.h"

namespace limen::monitor {
namespace {

constexpr std::string_view kGeneralSchema = R"(
enum QMPCapability { oob }
command qmp_capabilities { *enable: [QMPCapability] } [oob]

struct VersionTriple { major: int, minor: int, micro: int }
struct VersionInfo { qemu: VersionTriple, package: str }
command query-version -> VersionInfo

struct CommandInfo { name: str }
command query-commands -> [CommandInfo]

# What this very schema becomes. The members of its types depend on the meta-type.
enum SchemaMetaType { builtin, enum, array, object, alternate, command, event }
struct SchemaInfoBuiltin { json-type: str }
struct SchemaEnumMember { name: str, *features: [str] }
struct SchemaInfoEnum { members: [SchemaEnumMember], values: [str] }
struct SchemaInfoArray { element-type: str }
struct SchemaObjectMember { name: str, type: str, *default: any, *features: [str] }
struct SchemaVariant { case: str, type: str }
struct SchemaInfoObject { members: [SchemaObjectMember], *tag: str, *variants: [SchemaVariant] }
struct SchemaAlternateMember { type: str }
struct SchemaInfoAlternate { members: [SchemaAlternateMember] }
struct SchemaInfoCommand { arg-type: str, ret-type: str, *allow-oob: bool }
struct SchemaInfoEvent { arg-type: str }
union SchemaInfo { name: str, meta-type: SchemaMetaType, *features: [str] } on meta-type {
  builtin: SchemaInfoBuiltin, enum: SchemaInfoEnum, array: SchemaInfoArray,
  object: SchemaInfoObject, alternate: SchemaInfoAlternate, command: SchemaInfoCommand, event: SchemaInfoEvent }
command query-qmp-schema -> [SchemaInfo]

struct NameInfo { *name: str }
command query-name -> NameInfo [oob]
struct UuidInfo { UUID: str }
command query-uuid -> UuidInfo
struct KvmInfo { enabled: bool, present: bool }
command query-kvm -> KvmInfo
enum SysEmuTarget { x86_64 }
struct TargetInfo { arch: SysEmuTarget }
command query-target -> TargetInfo

enum CommandLineParameterType { string, boolean, number, size }
struct CommandLineParameterInfo { name: str, type: CommandLineParameterType, *help: str, *default: str }
struct CommandLineOptionInfo { option: str, parameters: [CommandLineParameterInfo] }
command query-command-line-options { *option: str } -> [CommandLineOptionInfo]

struct MachineInfo { name: str, *alias: str, *is-default: bool, cpu-max: int, hotpluggable-cpus: bool,
  numa-mem-supported: bool, deprecated: bool, *default-cpu-type: str, *default-ram-id: str,
  acpi: bool }
command query-machines -> [MachineInfo]

enum TpmModel { tpm-tis, tpm-crb }
command query-tpm-models -> [TpmModel]
enum TpmType { emulator }
command query-tpm-types -> [TpmType]
struct TPMEmulatorOptions { chardev: str }
struct TpmTypeOptions { type: TpmType, data: TPMEmulatorOptions }
struct TPMInfo { id: str, model: TpmModel, options: TpmTypeOptions }
command query-tpm -> [TPMInfo]

enum MigrationCapability { events }
struct MigrationCapabilityStatus { capability: MigrationCapability, state: bool }
command query-migrate-capabilities -> [MigrationCapabilityStatus]
command migrate-set-capabilities { capabilities: [MigrationCapabilityStatus] }
)";

Reply qmp_capabilities(Context&, const Json&) { return nothing(); }  // the dispatcher's

Reply query_version(Context&, const Json&) { return Dispatcher::version(); }

Reply query_commands(Context& context, const Json&) {
  Json all = Json::array();
  for (const auto& command : context.table.schema().commands())
    all.push_back({{"name", command.name}});
  return all;
}

Reply query_qmp_schema(Context& context, const Json&) {
  return context.table.schema().introspect();
}

Reply query_name(Context& context, const Json&) {
  Json info = Json::object();
  if (const auto& name = context.machine.description().name; !name.empty()) info["name"] = name;
  return info;
}

Reply query_uuid(Context& context, const Json&) {
  const auto& uuid = context.machine.description().uuid;
  return Json{{"UUID", uuid.empty() ? "00000000-0000-0000-0000-000000000000" : uuid}};
}

Reply query_kvm(Context& context, const Json&) {
  const bool enabled = context.machine.accelerator().name() == "kvm";
  return Json{{"enabled", enabled}, {"present", enabled || machine::kvm_is_the_choice()}};
}

Reply query_target(Context&, const Json&) { return Json{{"arch", "x86_64"}}; }

struct OptionParameter {
  std::string_view option, name, type;
};
constexpr std::array kParameters = {
    OptionParameter{"machine", "type", "string"},
    OptionParameter{"machine", "accel", "string"},
    OptionParameter{"machine", "hpet", "boolean"},
    OptionParameter{"machine", "pit", "boolean"},
    OptionParameter{"smp-opts", "cpus", "number"},
    OptionParameter{"smp-opts", "sockets", "number"},
    OptionParameter{"smp-opts", "dies", "number"},
    OptionParameter{"smp-opts", "cores", "number"},
    OptionParameter{"smp-opts", "threads", "number"},
    OptionParameter{"smp-opts", "maxcpus", "number"},
    OptionParameter{"mon", "mode", "string"},
    OptionParameter{"mon", "chardev", "string"},
    OptionParameter{"mon", "pretty", "boolean"},
    OptionParameter{"name", "guest", "string"},
    OptionParameter{"name", "process", "string"},
    OptionParameter{"name", "debug-threads", "boolean"},
    OptionParameter{"rtc", "base", "string"},
    OptionParameter{"msg", "timestamp", "boolean"},
    OptionParameter{"msg", "guest-name", "boolean"},
    OptionParameter{"chardev", "path", "string"},
    OptionParameter{"chardev", "host", "string"},
    OptionParameter{"chardev", "port", "string"},
    OptionParameter{"chardev", "server", "boolean"},
    OptionParameter{"chardev", "wait", "boolean"},
    OptionParameter{"chardev", "telnet", "boolean"},
    OptionParameter{"chardev", "reconnect", "number"},
    OptionParameter{"chardev", "mux", "boolean"},
    OptionParameter{"chardev", "append", "boolean"},
    OptionParameter{"chardev", "logfile", "string"},
    OptionParameter{"chardev", "logappend", "boolean"},
    OptionParameter{"action", "shutdown", "string"},
    OptionParameter{"action", "reboot", "string"},
    OptionParameter{"action", "panic", "string"},
    OptionParameter{"sandbox", "enable", "boolean"},
    OptionParameter{"sandbox", "obsolete", "string"},
    OptionParameter{"sandbox", "elevateprivileges", "string"},
    OptionParameter{"sandbox", "spawn", "string"},
    OptionParameter{"sandbox", "resourcecontrol", "string"},
};

Reply query_command_line_options(Context&, const Json& arguments) {
  const auto wanted = arguments.value("option", "");
  Json all = Json::array();
  for (const auto& parameter : kParameters) {
    if (!wanted.empty() && wanted != parameter.option) continue;
    if (all.empty() || all.back()["option"] != parameter.option)
      all.push_back({{"option", parameter.option}, {"parameters", Json::array()}});
    all.back()["parameters"].push_back({{"name", parameter.name}, {"type", parameter.type}});
  }
  if (all.empty() && !wanted.empty())
    return failure("GenericError", "invalid option name: {}", wanted);
  return all;
}

Reply query_machines(Context& context, const Json&) {
  const auto most = context.machine.accelerator().most_vcpus();
  return Json::array({Json{{"name", "pc-i440fx-7.2"},
                           {"alias", "pc"},
                           {"is-default", true},
                           {"cpu-max", std::min(most, 255u)},
                           {"hotpluggable-cpus", false},
                           {"numa-mem-supported", false},
                           {"deprecated", false},
                           {"acpi", true}},
                      Json{{"name", "pc-q35-7.2"},
                           {"alias", "q35"},
                           {"cpu-max", std::min(most, 288u)},
                           {"hotpluggable-cpus", false},
                           {"numa-mem-supported", false},
                           {"deprecated", false},
                           {"acpi", true}},
                      Json{{"name", "microvm"},
                           {"cpu-max", std::min(most, 288u)},
                           {"hotpluggable-cpus", false},
                           {"numa-mem-supported", false},
                           {"deprecated", false},
                           {"acpi", true}},
                      Json{{"name", "none"},
                           {"cpu-max", 1},
                           {"hotpluggable-cpus", false},
                           {"numa-mem-supported", false},
                           {"deprecated", false},
                           {"acpi", false}}});
}

Reply query_migrate_capabilities(Context&, const Json&) {
  return Json::array({Json{{"capability", "events"}, {"state", true}}});
}

Reply migrate_set_capabilities(Context&, const Json&) {
  // Whoever listens gets events: there is nothing to switch on.
  return nothing();
}

Reply query_tpm_models(Context&, const Json&) { return Json{"tpm-tis", "tpm-crb"}; }
Reply query_tpm_types(Context&, const Json&) { return Json::array({"emulator"}); }

Reply query_tpm(Context& context, const Json&) {
  Json all = Json::array();
  auto* board = context.machine.board();
  if (board == nullptr) return all;
  for (const auto& tpm : board->tpms())
    if (!tpm.model.empty())
      all.push_back({{"id", tpm.description.id},
                     {"model", tpm.model},
                     {"options",
                      {{"type", "emulator"}, {"data", {{"chardev", tpm.description.character}}}}}});
  return all;
}

}  // namespace

CommandGroup general_commands() {
  return {kGeneralSchema,
          {{"qmp_capabilities", qmp_capabilities},
           {"query-version", query_version},
           {"query-commands", query_commands},
           {"query-qmp-schema", query_qmp_schema},
           {"query-name", query_name},
           {"query-uuid", query_uuid},
           {"query-kvm", query_kvm},
           {"query-target", query_target},
           {"query-command-line-options", query_command_line_options},
           {"query-machines", query_machines},
           {"query-tpm-models", query_tpm_models},
           {"query-tpm-types", query_tpm_types},
           {"query-tpm", query_tpm},
           {"query-migrate-capabilities", query_migrate_capabilities},
           {"migrate-set-capabilities", migrate_set_capabilities}}};
}

}  // namespace limen::monitor
