// File descriptors that a client sends along (SCM_RIGHTS).
#include <charconv>
#include <optional>

#include "base/fd_sets.h"
#include "monitor/qmp/command_table.h"
#include "monitor/qmp/descriptor_store.h"

namespace limen::monitor {
namespace {

constexpr std::string_view kDescriptorSchema = R"(
command getfd { fdname: str } [oob]
command closefd { fdname: str } [oob]
struct AddfdInfo { fdset-id: int, fd: int }
command add-fd { *fdset-id: int, *opaque: str } -> AddfdInfo
command remove-fd { fdset-id: int, *fd: int }
struct FdsetFdInfo { fd: int, *opaque: str }
struct FdsetInfo { fdset-id: int, fds: [FdsetFdInfo] }
command query-fdsets -> [FdsetInfo]
command add_client { protocol: str, fdname: str, *skipauth: bool, *tls: bool }
)";

Reply getfd(Context& context, const Json& arguments) {
  const std::string name = arguments["fdname"];
  auto descriptor = context.descriptors.take_arrived();
  if (!descriptor) return failure("GenericError", "No file descriptor supplied via SCM_RIGHTS");
  // So that a number is never taken for a name.
  if (!name.empty() && name.front() >= '0' && name.front() <= '9')
    return failure("GenericError",
                   "Invalid parameter 'fdname', expected a name not starting with a digit");
  context.descriptors.name(name, std::move(*descriptor));
  return nothing();
}

Reply closefd(Context& context, const Json& arguments) {
  if (auto taken = context.descriptors.take(arguments["fdname"]); !taken)
    return std::unexpected(Failure(std::move(taken).error()));
  return nothing();
}

Reply add_fd(Context& context, const Json& arguments) {
  auto descriptor = context.descriptors.take_arrived();
  if (!descriptor) return failure("GenericError", "No file descriptor supplied via SCM_RIGHTS");
  std::optional<uint64_t> set;
  if (const auto id = arguments.find("fdset-id"); id != arguments.end()) {
    if (id->get<int64_t>() < 0)
      return failure("GenericError", "Parameter 'fdset-id' expects a non-negative value");
    set = id->get<uint64_t>();
  }
  const int number = descriptor->get();
  auto added = FdSets::of_process().add(set, std::move(*descriptor), arguments.value("opaque", ""));
  if (!added) return std::unexpected(Failure(std::move(added).error()));
  return Json{{"fdset-id", *added}, {"fd", number}};
}

Reply remove_fd(Context&, const Json& arguments) {
  std::optional<int> number;
  if (const auto fd = arguments.find("fd"); fd != arguments.end()) number = fd->get<int>();
  const auto set = arguments["fdset-id"].get<int64_t>();
  if (auto removed = FdSets::of_process().remove(static_cast<uint64_t>(set), number); !removed)
    return std::unexpected(Failure(std::move(removed).error()));
  return nothing();
}

Reply query_fdsets(Context&, const Json&) {
  Json all = Json::array();
  for (const auto& [id, entries] : FdSets::of_process().sets()) {
    Json fds = Json::array();
    for (const auto& entry : entries) {
      Json each = {{"fd", entry.descriptor}};
      if (!entry.opaque.empty()) each["opaque"] = entry.opaque;
      fds.push_back(std::move(each));
    }
    all.push_back({{"fdset-id", id}, {"fds", std::move(fds)}});
  }
  return all;
}

Reply add_client(Context& context, const Json& arguments) {
  if (auto taken = context.descriptors.take(arguments["fdname"]); !taken)
    return std::unexpected(Failure(std::move(taken).error()));
  return failure("GenericError", "protocol '{}' is invalid",
                 arguments["protocol"].get<std::string>());
}

}  // namespace

CommandGroup descriptor_commands() {
  return {kDescriptorSchema,
          {{"getfd", getfd},
           {"closefd", closefd},
           {"add-fd", add_fd},
           {"remove-fd", remove_fd},
           {"query-fdsets", query_fdsets},
           {"add_client", add_client}}};
}

}  // namespace limen::monitor
