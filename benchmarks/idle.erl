%% The peer of W5: gen_servers at rest, in a registry by name. Tells the resident bytes of each.
-module(idle).
-behaviour(gen_server).
-export([main/1, init/1, handle_call/3, handle_cast/2]).

init(State) -> {ok, State}.
handle_call(Message, _From, State) -> {reply, Message, State}.
handle_cast(_Message, State) -> {noreply, State}.

main([First, More]) ->
    Registry = ets:new(registry, [public]),
    grow(Registry, 1, list_to_integer(First)),
    Before = resident(),
    grow(Registry, list_to_integer(First) + 1, list_to_integer(More)),
    io:format("~w~n", [(resident() - Before) / list_to_integer(More)]),
    halt(0).

grow(Registry, From, Count) ->
    [begin
         {ok, Server} = gen_server:start(?MODULE, 0, []),
         1 = gen_server:call(Server, 1),
         ets:insert(Registry, {list_to_binary(io_lib:format("~18..0w", [Number])), Server})
     end || Number <- lists:seq(From, From + Count - 1)].

resident() ->
    [erlang:garbage_collect(Process) || Process <- processes()],
    {ok, Status} = file:read_file("/proc/self/status"),
    {match, [Kilobytes]} = re:run(Status, "VmRSS:\\s+(\\d+)", [{capture, [1], list}]),
    list_to_integer(Kilobytes) * 1024.
