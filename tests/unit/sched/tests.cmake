foreach(name explain faults parts place prefetch rules scale storm)
  rh_unit_test(sched ${name} base wire)
endforeach()

# The core alone, measured: ninja sched_core && tests/unit/sched_core
add_executable(sched_core EXCLUDE_FROM_ALL ${CMAKE_SOURCE_DIR}/bench/sched_core.c)
rh_allow(sched_core sched base wire)
target_link_libraries(sched_core PRIVATE rh_sched)
