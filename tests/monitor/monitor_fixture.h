// A machine with a QMP dispatcher in front of it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "machine/machine.h"
#include "machine/scripted_accelerator.h"
#include "monitor/hmp/interpreter.h"
#include "monitor/qmp/dispatcher.h"
#include "monitor/qmp/json_text.h"

namespace limen::monitor::testing {

class MonitorTest : public ::testing::Test {
 protected:
  MonitorTest() {
    description_.memory_bytes = uint64_t{16} << 20;
    description_.kernel =
        machine::testing::write_kernel(folder_ / "kernel", "\xB8\x78\x56\x34\x12\xF4");
    description_.vcpus = 2;
    description_.start_paused = true;
    description_.devices.push_back({"virtio-rng-pci", {{"id", "rng0"}, {"addr", "0x5"}}});
    description_.name = "tested";
  }

  void start() {
    machine_ = machine::Machine::create(
                   description_, std::make_unique<machine::testing::ScriptedAccelerator>(script_))
                   .value();
    machine_->events().add([this](const machine::Event& event, const Json& data) {
      events_.push_back(event.name);
      last_data_ = data;
      const auto* schema = CommandTable::all().schema().find_event(event.name);
      ASSERT_NE(schema, nullptr) << event.name;
      const auto checked = check_value(*schema->data, data, event.name);
      EXPECT_TRUE(checked) << checked.error().message;
    });
    dispatcher_ = std::make_unique<Dispatcher>(*machine_, shared_);
    dispatcher_->greet();
    run("qmp_capabilities");
  }

  /// What the command returns, which must be what the schema says.
  Json run(const std::string& command, const Json& arguments = Json::object()) {
    const Json reply = ask({{"execute", command}, {"arguments", arguments}});
    EXPECT_TRUE(reply.contains("return")) << reply;
    if (!reply.contains("return")) return {};
    const auto* schema = CommandTable::all().schema().find_command(command);
    const auto checked = check_value(*schema->result, reply["return"], "return");
    EXPECT_TRUE(checked) << command << ": " << checked.error().message;
    return reply["return"];
  }
  /// "Class: description".
  std::string error(const std::string& command, const Json& arguments = Json::object()) {
    const Json reply = ask({{"execute", command}, {"arguments", arguments}});
    if (!reply.contains("error")) return "no error: " + reply.dump();
    return reply["error"]["class"].get<std::string>() + ": " +
           reply["error"]["desc"].get<std::string>();
  }
  Json ask(const Json& message) { return dispatcher_->answer(message.dump()); }
  std::string type(const std::string& line) {
    return HumanInterpreter(*machine_, shared_).execute(line);
  }
  void poll() {
    for (int i = 0; i < 10; ++i) machine_->loop().poll();
  }

  machine::testing::TemporaryFolder folder_;
  machine::MachineDescription description_;
  machine::testing::Script script_ = [](machine::testing::Guest& guest) {
    guest.wait();
    return vcpu::Exit{};
  };
  std::unique_ptr<machine::Machine> machine_;
  Shared shared_;  // behind the machine, as monitors are
  std::unique_ptr<Dispatcher> dispatcher_;
  std::vector<std::string> events_;
  Json last_data_;
};

}  // namespace limen::monitor::testing
