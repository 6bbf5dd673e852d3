# rh_fuzz_target(executable name driver...): tests/fuzz/fuzz_<name>.c with the
# layers it needs.
set(RH_FUZZ_TARGETS connfile inflow msg pack scan session)

function(rh_fuzz_target target name)
  set(dir ${CMAKE_SOURCE_DIR}/tests/fuzz)
  add_executable(${target} ${dir}/fuzz_${name}.c ${ARGN})
  rh_allow(${target} base wire net)
  target_include_directories(${target} PRIVATE ${dir})
  target_link_libraries(${target} PRIVATE rh_wire rh_net)
endfunction()
