// Tile schedules of the host builder.
#include <gtest/gtest.h>

#include <algorithm>

#include "triage/error.h"
#include "unit/schedule_check.h"

namespace triage {
namespace {

using test::check_schedule;
using test::PatternCase;
using test::random_case;
using test::random_spec;
using test::ScheduleInMemory;

HostSchedule build(const ScheduleSpec& spec, const PatternCase& p, int multiprocessors) {
  return HostSchedule(spec, p.block_rows, p.block_cols, p.crow.data(), p.col.data(), multiprocessors);
}

ScheduleInMemory whole(HostSchedule& s) {
  return {s.plan, s.stages.data(), s.block_order.data(), s.items.data(), s.counts.item_count, nullptr, 0, 0};
}

ScheduleInMemory split(HostSchedule& s) {
  return {s.plan,          s.stages.data(),      s.block_order.data(), s.split_items.data(), s.counts.split_item_count,
          s.splits.data(), s.counts.split_count, s.counts.split_slots};
}

TEST(Schedule, KeepsItsPromisesOnRandomPatterns) {
  int split_schedules = 0;
  for (unsigned seed = 0; seed < 600; seed++) {
    const bool few_long_rows = seed % 8 == 6;  // what splitting is for
    const PatternCase p = random_case(seed, few_long_rows ? 400 : 60);
    ScheduleSpec spec = random_spec(seed);
    if (few_long_rows) spec.rows_per_group = spec.parts = 1 + seed % 3;
    spec.blocks_per_stage = std::max(spec.blocks_per_stage, spec.rows_per_group * spec.column_run);
    HostSchedule schedule = build(spec, p, 1 + seed % 140);
    ASSERT_EQ(check_schedule(whole(schedule), p), "") << "whole groups, seed " << seed;
    ASSERT_EQ(check_schedule(split(schedule), p), "") << "split groups, seed " << seed;
    split_schedules += schedule.counts.split_slots > 0;
  }
  EXPECT_GT(split_schedules, 20) << "the cases must split something to test it";
}

TEST(Schedule, SplitsWithinTheSlotsThatThereAre) {
  int limited = 0;
  for (unsigned seed = 6; seed < 400; seed += 8) {  // patterns with a few long rows
    const PatternCase p = random_case(seed, 400);
    ScheduleSpec spec;
    spec.columns_per_stage = 1 + seed % 3;
    spec.blocks_per_stage = 4;
    HostSchedule schedule = build(spec, p, 64);
    const std::int32_t wanted = schedule.counts.split_slots;
    for (const std::int32_t slots : {0, 3, wanted / 2, wanted - 1}) {
      if (slots < 0) continue;
      build_schedule(schedule.plan, p.crow.data(), p.col.data(), slots, schedule.arrays());
      ScheduleInMemory s = split(schedule);
      s.split_slots = slots;
      ASSERT_EQ(check_schedule(s, p), "") << "seed " << seed << ", slots " << slots;
      limited += schedule.counts.split_slots < wanted;
    }
  }
  EXPECT_GT(limited, 20);
}

TEST(Schedule, ViewsNameTheListThatFits) {
  const PatternCase p = random_case(6, 400);
  ScheduleSpec spec;
  HostSchedule schedule = build(spec, p, 64);
  const ScheduleView whole_view = schedule.view();
  EXPECT_EQ(whole_view.split_slots, 0);
  EXPECT_EQ(whole_view.items, schedule.items.data());
  EXPECT_EQ(*whole_view.item_count, schedule.plan.group_count);
  EXPECT_EQ(whole_view.item_capacity, schedule.plan.group_count);
  ASSERT_GT(schedule.counts.split_slots, 0);
  const ScheduleView split_view = schedule.view(true);
  EXPECT_EQ(split_view.split_slots, schedule.counts.split_slots);
  EXPECT_EQ(*split_view.item_count, schedule.counts.split_item_count);
  EXPECT_LE(*split_view.item_count, split_view.item_capacity);
  EXPECT_EQ(*split_view.split_count, schedule.counts.split_count);
}

TEST(Schedule, UnusualSpecsAreRefused) {
  const auto refused = [](int rows, int parts, int columns, int blocks, int run = 1) {
    ScheduleSpec spec;
    spec.rows_per_group = rows;
    spec.parts = parts;
    spec.columns_per_stage = columns;
    spec.blocks_per_stage = blocks;
    spec.column_run = run;
    try {
      plan_schedule(spec, 10, 10, 10, 1);
    } catch (const Error& error) {
      return error.code() == ErrorCode::invalid_argument;
    }
    return false;
  };
  EXPECT_FALSE(refused(24, 8, 16, 255));
  EXPECT_TRUE(refused(0, 1, 1, 1));
  EXPECT_TRUE(refused(25, 1, 1, 25));
  EXPECT_TRUE(refused(8, 3, 1, 8));
  EXPECT_TRUE(refused(8, 9, 1, 8));
  EXPECT_TRUE(refused(8, 1, 17, 8));
  EXPECT_TRUE(refused(8, 1, 0, 8));
  EXPECT_TRUE(refused(8, 1, 1, 7));
  EXPECT_TRUE(refused(8, 1, 1, 256));
  EXPECT_FALSE(refused(24, 2, 12, 96, 4));
  EXPECT_TRUE(refused(24, 2, 12, 95, 4));
  EXPECT_TRUE(refused(8, 1, 6, 64, 4));
  EXPECT_TRUE(refused(8, 1, 6, 64, 3));
  EXPECT_TRUE(refused(8, 1, 6, 64, 0));
  EXPECT_TRUE(refused(8, 1, 16, 128, 8));
}

TEST(Schedule, TooManyBlocksForInt32AreRefused) {
  EXPECT_THROW(plan_schedule(ScheduleSpec{}, 1 << 27, 1 << 27, std::int64_t{1} << 31, 1), Error);
}

}  // namespace
}  // namespace triage
