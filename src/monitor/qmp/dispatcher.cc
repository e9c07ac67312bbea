#include "monitor/qmp/dispatcher.h"

#include "monitor/qmp/json_text.h"

namespace limen::monitor {
namespace {

struct Request {
  std::string command;
  bool out_of_band = false;
  Json arguments = Json::object();
};

Result<Request> read_request(const Json& message, bool out_of_band_allowed) {
  Request request;
  std::string key;
  for (const auto& [name, value] : message.items()) {
    if (name == "execute" || (name == "exec-oob" && out_of_band_allowed)) {
      if (!value.is_string()) return fail("QMP input member '{}' must be a string", name);
      if (!key.empty()) return fail("QMP input member '{}' clashes with '{}'", name, key);
      key = name;
      request.command = value.get<std::string>();
      request.out_of_band = name == "exec-oob";
    } else if (name == "arguments") {
      if (!value.is_object()) return fail("QMP input member 'arguments' must be an object");
      request.arguments = value;
    } else if (name != "id") {
      return fail("QMP input member '{}' is unexpected", name);
    }
  }
  if (key.empty()) return fail("QMP input lacks member 'execute'");
  return request;
}

}  // namespace

Dispatcher::Dispatcher(machine::Machine& machine, Shared& shared, const CommandTable& table)
    : machine_(machine), shared_(shared), table_(table) {}

Json Dispatcher::version() {
  return {{"qemu", {{"major", 7}, {"minor", 2}, {"micro", 0}}},
          {"package", "Limen " LIMEN_VERSION}};
}

Json Dispatcher::greet() {
  negotiated_ = out_of_band_ = false;
  return {{"QMP", {{"version", version()}, {"capabilities", {"oob"}}}}};
}

Json Dispatcher::error(const std::string& error_class, const std::string& description) {
  return {{"error", {{"class", error_class}, {"desc", description}}}};
}

Json Dispatcher::answer(const Result<std::string>& message) {
  if (!message) return error("GenericError", message.error().message);
  const auto value = parse_json(*message);
  if (!value) return error("GenericError", value.error().message);
  if (!value->is_object()) return error("GenericError", "QMP input must be a JSON object");
  Json reply = execute(*value);
  if (const auto id = value->find("id"); id != value->end()) reply["id"] = *id;
  return reply;
}

Json Dispatcher::execute(const Json& message) {
  const auto request = read_request(message, out_of_band_);
  if (!request) return error("GenericError", request.error().message);
  auto outcome = run(request->command, request->out_of_band, request->arguments);
  if (!outcome) return error(outcome.error().error_class, outcome.error().description);
  return {{"return", std::move(*outcome)}};
}

Reply Dispatcher::run(const std::string& command, bool out_of_band, const Json& arguments) {
  const auto* schema = table_.schema().find_command(command);
  if (!negotiated_ && command != "qmp_capabilities") {
    if (schema == nullptr)
      return failure("CommandNotFound", "The command {} has not been found", command);
    return failure("CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'");
  }
  if (schema == nullptr)
    return failure("CommandNotFound", "The command {} has not been found", command);
  if (out_of_band && !schema->allow_oob)
    return failure("GenericError", "The command {} does not support OOB", command);
  if (auto checked = check_arguments(*schema, arguments); !checked)
    return std::unexpected(Failure(std::move(checked).error()));
  if (command == "qmp_capabilities") return negotiate(arguments);
  Context context{machine_, table_, descriptors_, shared_};
  return table_.handler(command)(context, arguments);
}

Reply Dispatcher::negotiate(const Json& arguments) {
  if (negotiated_)
    return failure("CommandNotFound",
                   "Capabilities negotiation is already complete, command ignored");
  negotiated_ = true;
  out_of_band_ = !arguments.value("enable", Json::array()).empty();
  return nothing();
}

}  // namespace limen::monitor
