# Every compiler replays the committed corpora as ordinary tests.
include(${CMAKE_CURRENT_LIST_DIR}/targets.cmake)
foreach(name IN LISTS RH_FUZZ_TARGETS)
  rh_fuzz_target(replay_${name} ${name} ${CMAKE_SOURCE_DIR}/tests/fuzz/replay.c)
  add_test(NAME fuzz.${name} COMMAND replay_${name}
           ${CMAKE_SOURCE_DIR}/tests/fuzz/corpus/${name})
endforeach()
