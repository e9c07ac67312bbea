#include "monitor/monitor_fixture.h"

namespace limen::monitor {
namespace {

class DispatcherTest : public testing::MonitorTest {
 protected:
  DispatcherTest() { start(); }
  std::string error_of(const std::string& text) {
    const Json reply = dispatcher_->answer(text);
    return reply.contains("error") ? reply["error"]["desc"].get<std::string>() : reply.dump();
  }
};

TEST_F(DispatcherTest, NothingIsDoneBeforeCapabilitiesAreNegotiated) {
  const Json greeting = dispatcher_->greet();
  EXPECT_EQ(greeting["QMP"]["capabilities"], Json::array({"oob"}));
  EXPECT_EQ(greeting["QMP"]["version"]["qemu"]["major"], 7);
  EXPECT_EQ(error("query-status"),
            "CommandNotFound: Expecting capabilities negotiation with 'qmp_capabilities'");
  EXPECT_FALSE(dispatcher_->negotiated());
  run("qmp_capabilities");
  EXPECT_TRUE(dispatcher_->negotiated());
  EXPECT_EQ(error("qmp_capabilities"),
            "CommandNotFound: Capabilities negotiation is already complete, command ignored");
}

TEST_F(DispatcherTest, IdsComeBackWhateverTheyAre) {
  EXPECT_EQ(ask({{"execute", "query-name"}, {"id", {{"a", 1}}}})["id"], (Json{{"a", 1}}));
  EXPECT_EQ(ask({{"execute", "nonsense"}, {"id", "x"}})["id"], "x");
  EXPECT_FALSE(ask({{"execute", "query-name"}}).contains("id"));
}

TEST_F(DispatcherTest, ErrorsAreWordedAsQemus) {
  EXPECT_EQ(error("nonsense"), "CommandNotFound: The command nonsense has not been found");
  EXPECT_EQ(error_of("{}"), "QMP input lacks member 'execute'");
  EXPECT_EQ(error_of("[]"), "QMP input must be a JSON object");
  EXPECT_EQ(error_of(R"({"execute": 1})"), "QMP input member 'execute' must be a string");
  EXPECT_EQ(error_of(R"({"execute": "stop", "arguments": []})"),
            "QMP input member 'arguments' must be an object");
  EXPECT_EQ(error_of(R"({"execute": "stop", "extra": 1})"),
            "QMP input member 'extra' is unexpected");
  EXPECT_EQ(error("stop", {{"x", 1}}), "GenericError: Parameter 'x' is unexpected");
  EXPECT_EQ(error("qom-get", {{"path", "/"}}), "GenericError: Parameter 'property' is missing");
}

TEST_F(DispatcherTest, OutOfBandIsForWhoAskedForItAndForCommandsThatAllowIt) {
  EXPECT_EQ(error_of(R"({"exec-oob": "query-status"})"),
            "QMP input member 'exec-oob' is unexpected");
  dispatcher_->greet();
  run("qmp_capabilities", {{"enable", {"oob"}}});
  EXPECT_TRUE(
      dispatcher_->answer(std::string(R"({"exec-oob": "query-status"})")).contains("return"));
  EXPECT_EQ(error_of(R"({"exec-oob": "stop"})"), "The command stop does not support OOB");
  EXPECT_EQ(error_of(R"({"exec-oob": "query-status", "execute": "stop"})"),
            "QMP input member 'execute' clashes with 'exec-oob'");
}

TEST_F(DispatcherTest, EveryCommandIsListedOnce) {
  std::set<std::string> names;
  for (const auto& command : run("query-commands"))
    EXPECT_TRUE(names.insert(command["name"]).second);
  EXPECT_EQ(names.size(), CommandTable::all().schema().commands().size());
  run("query-qmp-schema");
}

}  // namespace
}  // namespace limen::monitor
