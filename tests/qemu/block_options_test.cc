// -drive, -blockdev, -cdrom and the objects that go with them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "machine/objects.h"
#include "qemu/command_line.h"

namespace limen::qemu {
namespace {

using testing::HasSubstr;

Result<CommandLine> parse(const std::string& line) {
  std::istringstream stream("-nographic -kernel k " + line);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return parse_command_line("limen-system-x86_64", words);
}
machine::MachineDescription machine(const std::string& line) {
  auto parsed = parse(line);
  if (!parsed) ADD_FAILURE() << line << ": " << parsed.error().message;
  return parsed ? parsed->machine : machine::MachineDescription{};
}
machine::DriveDescription drive(const std::string& options) {
  const auto description = machine("-drive " + options);
  if (description.drives.size() != 1) ADD_FAILURE() << description.drives.size() << " drives";
  return description.drives.empty() ? machine::DriveDescription{} : description.drives.front();
}
std::string error(const std::string& line) {
  const auto parsed = parse(line);
  return parsed ? "no error" : parsed.error().message;
}

TEST(DriveOption, HasQemusDefaults) {
  const auto d = drive("file=a");
  EXPECT_EQ(d.cache, "writeback");
  EXPECT_EQ(d.aio, "");
  EXPECT_EQ(d.write_errors, "enospc");
  EXPECT_EQ(d.read_errors, "report");
  EXPECT_EQ(d.detect_zeroes, "off");
  EXPECT_FALSE(d.snapshot);
  EXPECT_TRUE(d.locking);
}

TEST(DriveOption, TakesEverySetting) {
  const auto d = drive(
      "file.filename=a,file.driver=file,driver=raw,aio=native,cache=none,detect-zeroes=unmap,"
      "werror=stop,rerror=ignore,snapshot=on,file.locking=off,node-name=n0,id=d,if=none,"
      "throttling.iops-total=100,throttling.iops-total-max=200,throttling.iops-total-max-length=5,"
      "throttling.iops-size=4k,throttling.group=g");
  EXPECT_EQ(d.file, "a");
  EXPECT_EQ(d.aio, "native");
  EXPECT_EQ(d.cache, "none");
  EXPECT_EQ(d.detect_zeroes, "unmap");
  EXPECT_EQ(d.write_errors, "stop");
  EXPECT_EQ(d.read_errors, "ignore");
  EXPECT_TRUE(d.snapshot);
  EXPECT_FALSE(d.locking);
  EXPECT_EQ(d.node_name, "n0");
  EXPECT_EQ(d.throttle.iops_total.average, 100u);
  EXPECT_EQ(d.throttle.iops_total.maximum, 200u);
  EXPECT_EQ(d.throttle.iops_total.length, 5u);
  EXPECT_EQ(d.throttle.iops_size, 4096u);
  EXPECT_EQ(d.throttle_group, "g");
}

TEST(DriveOption, CacheInParts) {
  EXPECT_EQ(drive("file=a,cache.direct=on").cache, "none");
  EXPECT_EQ(drive("file=a,cache.no-flush=on").cache, "unsafe");
  EXPECT_EQ(drive("file=a,cache.writeback=off").cache, "writethrough");
  EXPECT_EQ(drive("file=a,cache.writeback=off,cache.direct=on").cache, "directsync");
  EXPECT_EQ(drive("file=a,cache=none,cache.direct=off").cache, "writeback");
}

TEST(DriveOption, OlderNamesOfLimits) {
  const auto d = drive("file=a,bps_rd=1M,iops_wr=7");
  EXPECT_EQ(d.throttle.bps_read.average, 1u << 20);
  EXPECT_EQ(d.throttle.iops_write.average, 7u);
}

TEST(DriveOption, MistakesAreNamedAsQemuDoes) {
  EXPECT_THAT(error("-drive file=a,aio=native"), HasSubstr("it requires cache.direct=on"));
  EXPECT_THAT(error("-drive file=a,aio=thread"), HasSubstr("did you mean 'threads'?"));
  EXPECT_THAT(error("-drive file=a,werror=explode"),
              HasSubstr("'explode' invalid write error action"));
  EXPECT_THAT(error("-drive file=a,rerror=enospc"),
              HasSubstr("'enospc' invalid read error action"));
  EXPECT_THAT(error("-M q35 -drive file=a,if=ide,index=6"),
              HasSubstr("machine type does not support if=ide,bus=6,unit=0"));
  EXPECT_THAT(error("-M q35 -drive file=a,if=ide,bus=0,unit=1"),
              HasSubstr("machine type does not support if=ide,bus=0,unit=1"));
  EXPECT_THAT(error("-drive file=a,index=1,unit=1"),
              HasSubstr("index cannot be used with bus and unit"));
  EXPECT_THAT(error("-drive file=a,index=1 -drive file=b,index=1"),
              HasSubstr("drive with bus=0, unit=1 (index=1) exists"));
  EXPECT_THAT(error("-drive file=a,discard=ignore,detect-zeroes=unmap"),
              HasSubstr("setting detect-zeroes to unmap is not allowed"));
  EXPECT_THAT(error("-drive file=a,copy-on-read=on"), HasSubstr("copy-on-read is not there"));
  EXPECT_THAT(error("-drive file=nbd:localhost:1"), HasSubstr("Unknown protocol 'nbd'"));
  EXPECT_THAT(error("-drive file=a,throttling.iops-total=1,throttling.iops-read=1"),
              HasSubstr("cannot be used at the same time"));
  EXPECT_THAT(error("-drive file=a,throttling.iops-totl=1"),
              HasSubstr("did you mean 'throttling.iops-total'?"));
  EXPECT_THAT(error("-drive file=a,node-name=n -drive file=b,node-name=n"),
              HasSubstr("Duplicate nodes with node-name='n'"));
}

TEST(DriveOption, DiscsAndOlderDiskOptions) {
  const auto description = machine("-cdrom a.iso -hda b.img -hdb c.img");
  ASSERT_EQ(description.drives.size(), 3u);
  EXPECT_EQ(description.drives[0].interface, "ide");
  EXPECT_EQ(description.drives[0].index, 2u);
  EXPECT_TRUE(description.drives[0].read_only);
  EXPECT_EQ(description.drives[1].interface, "ide");
  EXPECT_EQ(description.drives[2].index, 1u);
  // A word that is no option is a disk.
  EXPECT_EQ(machine("b.img -hdb c.img").drives[0].file, "b.img");
  EXPECT_THAT(error("a b"), HasSubstr("'b', taken for a disk: drive with bus=0, unit=0"));
  EXPECT_THAT(error("-cdrom a -cdrom b"), HasSubstr("(index=2) exists"));
  EXPECT_EQ(drive("file=a,media=cdrom").interface, "ide");
  EXPECT_EQ(drive("media=cdrom,if=none,id=cd").file, "");
}

TEST(DriveOption, SnapshotIsForEveryDriveWhereverItStands) {
  const auto description = machine(
      "-drive file=a -snapshot -drive file=b -cdrom c -blockdev file,node-name=n,filename=d");
  ASSERT_EQ(description.drives.size(), 4u);
  EXPECT_TRUE(description.drives[0].snapshot);
  EXPECT_TRUE(description.drives[1].snapshot);
  EXPECT_FALSE(description.drives[2].snapshot);
  EXPECT_FALSE(description.drives[3].snapshot);
}

TEST(BlockdevOption, NodesBecomeOneDrive) {
  const auto description = machine(
      "-object throttle-group,id=g,limits.iops-total=50 "
      "-blockdev driver=file,node-name=f,filename=a,cache.direct=on,aio=io_uring "
      "-blockdev {\"driver\":\"raw\",\"node-name\":\"r\",\"file\":\"f\",\"read-only\":true} "
      "-blockdev throttle,node-name=t,throttle-group=g,file=r -device virtio-blk-pci,drive=t");
  ASSERT_EQ(description.drives.size(), 1u);
  const auto& node = description.drives.front();
  EXPECT_EQ(node.id, "t");
  EXPECT_EQ(node.file, "a");
  EXPECT_EQ(node.cache, "none");
  EXPECT_EQ(node.aio, "io_uring");
  EXPECT_TRUE(node.read_only);
  EXPECT_EQ(node.throttle_group, "g");
  EXPECT_EQ(node.interface, "none");
  ASSERT_EQ(description.objects.size(), 1u);
  EXPECT_EQ(machine::throttle_limits(description.objects[0])->iops_total.average, 50u);
}

TEST(BlockdevOption, NestedFileAndNull) {
  const auto description = machine(
      "-blockdev {\"driver\":\"raw\",\"node-name\":\"r\",\"file\":{\"driver\":\"file\","
      "\"filename\":\"a,b\"}} -blockdev null-co,node-name=z,size=64M,read-zeroes=on");
  ASSERT_EQ(description.drives.size(), 2u);
  EXPECT_EQ(description.drives[0].file, "a,b");
  EXPECT_EQ(description.drives[1].format, "null-co");
  EXPECT_EQ(description.drives[1].null_bytes, uint64_t{64} << 20);
}

TEST(BlockdevOption, BackingImagesAndDottedKeys) {
  const auto description = machine(
      "-blockdev qcow2,node-name=base,read-only=on,file.driver=file,file.filename=b,"
      "file.node-name=bf "
      "-blockdev {\"driver\":\"qcow2\",\"node-name\":\"top\",\"backing\":\"base\","
      "\"cache\":{\"direct\":true},\"file\":{\"driver\":\"file\",\"filename\":\"t\"}} "
      "-blockdev {\"driver\":\"qcow2\",\"node-name\":\"alone\",\"backing\":null,"
      "\"file\":{\"driver\":\"file\",\"filename\":\"a\"}}");
  ASSERT_EQ(description.drives.size(), 2u);
  const auto& top = description.drives[0];
  EXPECT_EQ(top.format, "qcow2");
  EXPECT_EQ(top.cache, "none");
  EXPECT_TRUE(top.own_backing);
  ASSERT_NE(top.backing, nullptr);
  EXPECT_EQ(top.backing->file, "b");
  EXPECT_EQ(top.backing->nodes.at(0).name, "bf");
  EXPECT_TRUE(description.drives[1].own_backing);
  EXPECT_EQ(description.drives[1].backing, nullptr);
  ASSERT_EQ(description.child_nodes.size(), 1u);
  EXPECT_EQ(description.child_nodes[0].parent, "top");
}

TEST(BlockdevOption, Mistakes) {
  EXPECT_THAT(error("-blockdev raw,node-name=a,file=b,file.filename=c"),
              HasSubstr("used inconsistently"));
  EXPECT_THAT(error("-blockdev raw,node-name=a,file.filename=c,backing=d"),
              HasSubstr("does not support backing files"));
  EXPECT_THAT(error("-blockdev raw,node-name=a.b.c/d,file.filename=c"),
              HasSubstr("Invalid node-name"));
  EXPECT_THAT(error("-blockdev node-name=a"), HasSubstr("Parameter 'driver' is missing"));
  EXPECT_THAT(error("-blockdev fil,node-name=a"), HasSubstr("did you mean 'file'?"));
  EXPECT_THAT(error("-blockdev file,filename=a"), HasSubstr("'node-name' must be specified"));
  EXPECT_THAT(error("-blockdev file,node-name=a"), HasSubstr("Parameter 'filename' is missing"));
  EXPECT_THAT(error("-blockdev raw,node-name=a,file=b"), HasSubstr("nor node-name='b'"));
  EXPECT_THAT(error("-blockdev {\"driver\":"), HasSubstr("Invalid JSON syntax"));
  EXPECT_THAT(error("-blockdev throttle,node-name=t,throttle-group=g,file.filename=a"),
              HasSubstr("Throttle group 'g' does not exist"));
  EXPECT_THAT(error("-blockdev file,node-name=f,filename=a -blockdev raw,node-name=r,file=f "
                    "-device virtio-blk-pci,drive=f"),
              HasSubstr("the node is another node's already"));
}

TEST(BlockObjects, IoThreadsAreReferredTo) {
  const auto description = machine(
      "-object iothread,id=io0 -drive file=a,if=none,id=d "
      "-device virtio-blk-pci,drive=d,iothread=io0,num-queues=4,queue-size=512,"
      "logical_block_size=4096,physical_block_size=4096,bootindex=1,config-wce=off,write-cache="
      "auto");
  ASSERT_EQ(description.objects.size(), 1u);
  EXPECT_EQ(description.objects[0].type, "iothread");
  EXPECT_THAT(error("-drive file=a,if=none,id=d -device virtio-blk-pci,drive=d,iothread=io"),
              HasSubstr("not found"));
  EXPECT_THAT(error("-object iothread,id=a -object iothread,id=a"),
              HasSubstr("attempt to add duplicate property 'a'"));
  EXPECT_THAT(error("-object iothread"), HasSubstr("Parameter 'id' is missing"));
}

TEST(ScsiDevices, AreKnownAndPassingThroughIsRefusedByName) {
  machine(
      "-drive file=a,if=none,id=d -device virtio-scsi-pci,id=s -device "
      "scsi-hd,drive=d,bus=s.0,scsi-id=3,lun=2,serial=X,wwn=0x5000c50015ea71ac -device scsi-cd");
  EXPECT_THAT(error("-device scsi-block"), HasSubstr("passes SCSI commands through"));
  EXPECT_THAT(error("-device virtio-scsi-pci -device scsi-hd"),
              HasSubstr("drive property not set"));
}

}  // namespace
}  // namespace limen::qemu
