// Processors: those of the machine, and the models that there are.
#include <algorithm>

#include "machine/machine.h"
#include "monitor/qmp/command_table.h"
#include "x86/cpu_features.h"
#include "x86/cpu_models.h"

namespace limen::monitor {
namespace {

constexpr std::string_view kProcessorSchema = R"(
struct CpuInstanceProperties { *node-id: int, *socket-id: int, *die-id: int, *core-id: int,
  *thread-id: int }
struct CpuInfoFast { cpu-index: int, qom-path: str, thread-id: int, *props: CpuInstanceProperties,
  target: SysEmuTarget }
command query-cpus-fast -> [CpuInfoFast]
struct HotpluggableCPU { type: str, vcpus-count: int, props: CpuInstanceProperties, *qom-path: str }
command query-hotpluggable-cpus -> [HotpluggableCPU]

struct CpuDefinitionInfo { name: str, *migration-safe: bool, static: bool,
  *unavailable-features: [str], typename: str, *alias-of: str, deprecated: bool }
command query-cpu-definitions -> [CpuDefinitionInfo]

enum CpuModelExpansionType { static, full }
struct CpuModelInfo { name: str, *props: any }
struct CpuModelExpansionInfo { model: CpuModelInfo }
command query-cpu-model-expansion { type: CpuModelExpansionType, model: CpuModelInfo }
  -> CpuModelExpansionInfo
)";

constexpr std::string_view kTypeSuffix = "-x86_64-cpu";

std::string model_of(const machine::Machine& machine) {
  const auto& cpu = machine.description().cpu;
  return cpu.substr(0, cpu.find(','));
}

/// Where processor `index` stands in the topology.
Json instance(const x86::Topology& topology, unsigned index) {
  const unsigned thread = index % topology.threads;
  const unsigned core = index / topology.threads % topology.cores;
  const unsigned die = index / topology.threads / topology.cores % topology.dies;
  const unsigned socket = index / topology.threads / topology.cores / topology.dies;
  return {{"socket-id", socket}, {"die-id", die}, {"core-id", core}, {"thread-id", thread}};
}

std::string path_of(unsigned index) { return fmt::format("/machine/unattached/device[{}]", index); }

Reply query_cpus_fast(Context& context, const Json&) {
  Json all = Json::array();
  auto& processors = context.machine.processors();
  for (unsigned i = 0; i < processors.size(); ++i)
    all.push_back({{"cpu-index", i},
                   {"qom-path", path_of(i)},
                   {"thread-id", processors[i]->thread_id()},
                   {"props", instance(context.machine.topology(), i)},
                   {"target", "x86_64"}});
  return all;
}

Reply query_hotpluggable_cpus(Context& context, const Json&) {
  if (context.machine.board() == nullptr)
    return failure("GenericError", "machine does not support hot-plugging CPUs");
  Json all = Json::array();
  auto count = static_cast<unsigned>(context.machine.processors().size());
  while (count-- > 0)
    all.push_back({{"type", model_of(context.machine) + std::string(kTypeSuffix)},
                   {"vcpus-count", 1},
                   {"props", instance(context.machine.topology(), count)},
                   {"qom-path", path_of(count)}});
  return all;
}

bool is_static(std::string_view model) { return model != "max" && model != "host"; }

/// What of a model the accelerator cannot run here.
Json unavailable_features(const x86::CpuModel& model, const x86::CpuidTable& supported) {
  Json names = Json::array();
  const auto wanted = model.make(supported);
  for (const auto& feature : x86::cpu_features())
    if (x86::has_feature(wanted, feature) && !x86::has_feature(supported, feature))
      names.push_back(feature.name);
  return names;
}

Reply query_cpu_definitions(Context& context, const Json&) {
  const auto supported = context.machine.accelerator().supported_cpuid();
  Json all = Json::array();
  for (const auto& model : x86::cpu_models())
    all.push_back({{"name", model.name},
                   {"typename", std::string(model.name) + std::string(kTypeSuffix)},
                   {"unavailable-features", unavailable_features(model, supported)},
                   {"migration-safe", is_static(model.name)},
                   {"static", false},
                   {"deprecated", false}});
  return all;
}

Reply query_cpu_model_expansion(Context& context, const Json& arguments) {
  const auto& asked = arguments["model"];
  std::string specification = asked["name"];
  const auto models = x86::cpu_models();
  if (std::ranges::find(models, std::string_view(specification), &x86::CpuModel::name) ==
      models.end())
    return failure("GenericError", "The CPU definition '{}' is unknown", specification);
  if (const auto props = asked.find("props"); props != asked.end()) {
    if (!props->is_object())
      return failure("GenericError", "Invalid parameter type for 'model.props', expected: object");
    for (const auto& [name, value] : props->items()) {
      if (name == "migratable" || name == "hv-passthrough" || name == "kvm") continue;
      if (!value.is_boolean() || x86::find_cpu_feature(name) == nullptr)
        return failure("GenericError", "Property '{}{}.{}' not found", specification, kTypeSuffix,
                       name);
      specification += fmt::format(",{}={}", name, value.get<bool>() ? "on" : "off");
    }
  }
  auto table = x86::cpu_model(specification, context.machine.accelerator().supported_cpuid());
  if (!table) return std::unexpected(Failure(std::move(table).error()));
  Json props = Json::object();
  for (const auto& feature : x86::cpu_features())
    props[std::string(feature.name)] = x86::has_feature(*table, feature);
  // A static expansion stands on the model without anything, QEMU's "base".
  const std::string name = arguments["type"] == "static" ? "base" : asked["name"];
  return Json{{"model", {{"name", name}, {"props", std::move(props)}}}};
}

}  // namespace

CommandGroup processor_commands() {
  return {kProcessorSchema,
          {{"query-cpus-fast", query_cpus_fast},
           {"query-hotpluggable-cpus", query_hotpluggable_cpus},
           {"query-cpu-definitions", query_cpu_definitions},
           {"query-cpu-model-expansion", query_cpu_model_expansion}}};
}

}  // namespace limen::monitor
