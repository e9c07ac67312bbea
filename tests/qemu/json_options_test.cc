#include "qemu/json_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "machine/objects.h"
#include "qemu/command_line.h"

namespace limen::qemu {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

Result<CommandLine> parse(std::vector<std::string> words) {
  words.insert(words.begin(), {"-kernel", "k", "-nographic", "-net", "none"});
  return parse_command_line("limen-system-x86_64", words);
}

machine::MachineDescription machine(const std::vector<std::string>& words) {
  auto parsed = parse(words);
  if (!parsed) ADD_FAILURE() << parsed.error().message;
  return parsed ? parsed->machine : machine::MachineDescription{};
}

std::string error(const std::vector<std::string>& words) {
  const auto parsed = parse(words);
  return parsed ? "no error" : parsed.error().message;
}

std::optional<JsonType> type_of(std::string_view name) {
  if (name == "flag" || name == "deep.flag") return JsonType::kBoolean;
  if (name == "count" || name == "list") return JsonType::kNumber;
  if (name == "text") return JsonType::kText;
  return std::nullopt;
}

TEST(JsonOptions, BecomeKeysAndValues) {
  const auto json = parse_json_option(
      R"({"text": "a,b=c", "flag": true, "count": 18446744073709551615, "list": [1, 2],
          "deep": {"flag": false}})");
  ASSERT_TRUE(json);
  const auto values = key_values_of(*json, type_of);
  ASSERT_TRUE(values);
  EXPECT_THAT(
      values->pairs(),
      ElementsAre(Pair("count", "18446744073709551615"), Pair("deep.flag", "off"),
                  Pair("flag", "on"), Pair("list", "1"), Pair("list", "2"), Pair("text", "a,b=c")));
}

TEST(JsonOptions, TypesAreChecked) {
  const auto complaint = [](const char* text) {
    const auto values = key_values_of(nlohmann::json::parse(text), type_of);
    return values ? "no error" : values.error().message;
  };
  EXPECT_EQ(complaint(R"({"flag": "on"})"), "Invalid parameter type for 'flag', expected: boolean");
  EXPECT_EQ(complaint(R"({"count": 1.5})"),
            "Invalid parameter type for 'count', expected: integer");
  EXPECT_EQ(complaint(R"({"text": null})"), "Invalid parameter type for 'text', expected: string");
  EXPECT_EQ(complaint(R"({"list": [1, "x"]})"),
            "Invalid parameter type for 'list', expected: integer");
  EXPECT_EQ(complaint(R"({"deep": {"falg": true}})"), "Parameter 'deep.falg' is unexpected");
}

TEST(JsonOptions, WhatIsNoObjectIsSaid) {
  EXPECT_THAT(error({"-device", "{"}), HasSubstr("Invalid JSON syntax"));
  EXPECT_THAT(error({"-device", "{nonsense}"}),
              HasSubstr("JSON parse error, invalid keyword 'nonsense'"));
  EXPECT_THAT(error({"-object", "{\"a\":1}{}"}), HasSubstr("Invalid JSON syntax"));
}

TEST(JsonDevice, IsTheOneOfAList) {
  const auto description = machine(
      {"-object", R"({"qom-type":"rng-random","id":"r0"})", "-device",
       R"({"driver":"virtio-rng","rng":"r0","max-bytes":4096,"id":"a","bus":"pcie.0","addr":"0x4"})",
       "-device",
       R"({'driver':'pcie-root-port','id':'p','chassis':1,'multifunction':true,'addr':41})"});
  ASSERT_EQ(description.devices.size(), 2u);
  EXPECT_EQ(description.devices[0].driver, "virtio-rng-pci");
  EXPECT_EQ(description.devices[0].properties.at("max-bytes"), "4096");
  EXPECT_EQ(description.devices[1].properties.at("multifunction"), "on");
  EXPECT_EQ(description.devices[1].properties.at("addr"), "0x5.0x1");
}

TEST(JsonDevice, ErrorsAreQemus) {
  EXPECT_THAT(error({"-device", R"({"id":"a"})"}), HasSubstr("Parameter 'driver' is missing"));
  EXPECT_THAT(error({"-device", "id=a"}), HasSubstr("Parameter 'driver' is missing"));
  EXPECT_THAT(error({"-device", R"({"driver":7})"}),
              HasSubstr("Invalid parameter type for 'driver', expected: string"));
  EXPECT_THAT(error({"-device", R"({"driver":"virtio-rng-pci","max-bytes":"4"})"}),
              HasSubstr("Invalid parameter type for 'max-bytes', expected: integer"));
  EXPECT_THAT(error({"-device", R"({"driver":"virtio-rng-pci","max-bytes":-4})"}),
              HasSubstr("Parameter 'max-bytes' expects uint64"));
  EXPECT_THAT(error({"-device", R"({"driver":"pcie-root-port","multifunction":"on"})"}),
              HasSubstr("Invalid parameter type for 'multifunction', expected: boolean"));
  EXPECT_THAT(error({"-device", R"({"driver":"virtio-rng-pci","id":true})"}),
              HasSubstr("Invalid parameter type for 'id', expected: string"));
  EXPECT_THAT(error({"-device", R"({"driver":"virtio-rng-pci","addr":256})"}),
              HasSubstr("Parameter 'addr'"));
  EXPECT_THAT(error({"-device", R"({"driver":"virtio-rng-pci","maxbytes":{}})"}),
              HasSubstr("Property 'virtio-rng-pci.maxbytes' not found; did you mean 'max-bytes'?"));
  EXPECT_THAT(error({"-device", R"({"driver":"virtio-rgn-pci"})"}),
              HasSubstr("did you mean 'virtio-rng-pci'?"));
}

TEST(JsonObject, TypesAndMembers) {
  const auto description =
      machine({"-object", R"({"qom-type":"throttle-group","id":"g","limits":{"iops-total":100}})",
               "-object", R"({"qom-type":"iothread","id":"t","poll-max-ns":0})", "-object",
               R"({"qom-type":"secret","id":"s","data":"a,b"})"});
  ASSERT_EQ(description.objects.size(), 3u);
  EXPECT_EQ(machine::throttle_limits(description.objects[0])->iops_total.average, 100u);
  EXPECT_EQ(description.objects[1].properties.at("poll-max-ns"), "0");
  EXPECT_EQ(description.objects[2].properties.at("data"), "a,b");
}

TEST(JsonObject, ErrorsAreQemus) {
  EXPECT_THAT(error({"-object", R"({"id":"a"})"}), HasSubstr("Parameter 'qom-type' is missing"));
  EXPECT_THAT(error({"-object", R"({"qom-type":"iothread"})"}),
              HasSubstr("Parameter 'id' is missing"));
  EXPECT_THAT(error({"-object", R"({"qom-type":"iothred","id":"a"})"}),
              HasSubstr("Parameter 'qom-type' does not accept value 'iothred'"));
  EXPECT_THAT(error({"-object", R"({"qom-type":"iothread","id":"a","pol-max-ns":1})"}),
              HasSubstr("Parameter 'pol-max-ns' is unexpected"));
  EXPECT_THAT(error({"-object", R"({"qom-type":"iothread","id":"a","poll-max-ns":"1"})"}),
              HasSubstr("Invalid parameter type for 'poll-max-ns', expected: integer"));
  EXPECT_THAT(error({"-object", R"({"qom-type":"secret","id":"a","data":"x"})", "-object",
                     "iothread,id=a"}),
              HasSubstr("attempt to add duplicate property 'a' to object (type 'container')"));
}

TEST(Secret, IsReadWhenItIsMade) {
  const std::string path = testing::TempDir() + "limen-secret";
  std::ofstream(path) << "aGVsbG8=\n";
  EXPECT_EQ(error({"-object", "secret,id=s,format=base64,file=" + path}), "no error");
  EXPECT_EQ(error({"-object", "secret,id=s,file=" + path}), "no error");
  EXPECT_THAT(error({"-object", "secret,id=s,format=base64,data=%%%"}), HasSubstr("Base64"));
  EXPECT_THAT(error({"-object", "secret,id=s,file=/nonexistent"}),
              HasSubstr("/nonexistent”: No such file or directory"));
  EXPECT_THAT(error({"-object", "secret,id=s"}), HasSubstr("Must provide 'file' or 'data'"));
  EXPECT_THAT(error({"-object", "secret,id=s,data=a,file=b"}),
              HasSubstr("'file' and 'data' are mutually exclusive"));
  EXPECT_THAT(error({"-object", "secret,id=s,data=a,keyid=b"}), HasSubstr("keyid="));
}

TEST(MemoryBackend, IsTheMachinesMemory) {
  const std::string object = R"({"qom-type":"memory-backend-ram","id":"ram","size":268435456})";
  EXPECT_EQ(machine({"-object", object, "-machine", "q35,memory-backend=ram"}).memory_bytes,
            uint64_t{256} << 20);
  EXPECT_EQ(machine({"-machine", "memory-backend=ram", "-object",
                     "memory-backend-memfd,id=ram,size=64M,prealloc=on"})
                .memory_backend,
            "ram");
  EXPECT_EQ(machine({"-m", "256", "-object", object, "-M", "q35,memory-backend=ram"}).memory_bytes,
            uint64_t{256} << 20);
  EXPECT_THAT(error({"-m", "128", "-object", object, "-M", "q35,memory-backend=ram"}),
              HasSubstr("Size specified by -m option must match size"));
  EXPECT_THAT(error({"-M", "q35,memory-backend=ram"}), HasSubstr("Memory backend 'ram' not found"));
  EXPECT_NE(error({"-object", "memory-backend-ram,id=a,size=0"}), "no error");
  EXPECT_THAT(error({"-object", "iothread,id=ram", "-M", "memory-backend=ram"}),
              HasSubstr("'ram' is not a memory backend, but of type iothread"));
}

TEST(SerialDevice, TakesItsPlaceAmongThePorts) {
  const auto ports = [](const std::vector<std::string>& words) { return machine(words).serials; };
  const std::vector<std::string> base = {"-nodefaults", "-chardev", "null,id=a", "-chardev",
                                         "null,id=b"};
  const auto with = [&](std::vector<std::string> words) {
    words.insert(words.begin(), base.begin(), base.end());
    return words;
  };
  EXPECT_THAT(ports(with({"-device", R"({"driver":"isa-serial","chardev":"a","index":0})",
                          "-device", "isa-serial,chardev=b"})),
              ElementsAre("a", "b"));
  EXPECT_THAT(ports(with({"-device", "isa-serial,chardev=b,index=1", "-device",
                          "isa-serial,chardev=a,index=0"})),
              ElementsAre("a", "b"));
  EXPECT_THAT(error(with({"-serial", "null", "-device", "isa-serial,chardev=a,index=0"})),
              HasSubstr("COM1 is there already"));
  EXPECT_THAT(error(with({"-device", "isa-serial"})), HasSubstr("empty char device"));
  EXPECT_THAT(error(with({"-device", "isa-serial,chardev=c"})), HasSubstr("can't find value 'c'"));
}

TEST(OptionsOfManagementPrograms, AreTakenOrRefused) {
  EXPECT_EQ(
      error({"-audiodev", R"({"id":"audio1","driver":"none"})", "-boot", "strict=on", "-overcommit",
             "mem-lock=off", "-display", R"({"type":"none"})", "-no-acpi", "-name",
             "guest=a,debug-threads=on", "-device", "virtio-rng-pci-non-transitional", "-msg",
             "timestamp=on", "-machine", "pc-q35-7.2,usb=off,vmport=off,dump-guest-core=off"}),
      "no error");
  EXPECT_FALSE(machine({"-no-acpi"}).acpi);
  EXPECT_FALSE(machine({"-machine", "q35,acpi=off"}).acpi);
  EXPECT_THAT(error({"-audiodev", "none"}), HasSubstr("Parameter 'id' is missing"));
  EXPECT_THAT(error({"-audiodev", "alsa,id=a"}),
              HasSubstr("Parameter 'driver' does not accept value 'alsa'"));
  EXPECT_THAT(error({"-audiodev", "none,id=a", "-audiodev", "none,id=a"}),
              HasSubstr("Duplicate ID 'a' for audiodev"));
  EXPECT_THAT(error({"-boot", "order=cz"}), HasSubstr("Invalid boot device 'z'"));
  EXPECT_THAT(error({"-boot", "cc"}), HasSubstr("Boot device 'c' was given twice"));
  EXPECT_THAT(error({"-overcommit", "cpu-pm=on"}), HasSubstr("cpu-pm=on"));
}

}  // namespace
}  // namespace limen::qemu
